//! `scripts/bench`: what the bridge costs beside the broker and the `tapo` crate alone, all in one run.

mod alone;
mod bridge;
mod broker;
mod churn;
mod client;
mod figures;
mod fleet;
mod groups;
mod held;
mod isolation;
mod latency;
mod pages;
mod peers;
mod planner;
mod report;
mod scale;
mod scheduler;
mod sensor;
mod site;
mod size;
mod start;
mod stop;
mod sustained;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use figures::Book;
use report::Origin;
use tokio::time::timeout;

/// Measures the bridge.
#[derive(Parser)]
struct Arguments {
    /// The bridge, built for release without the demo.
    #[arg(long)]
    bridge: PathBuf,
    /// The bridge with the demo, for its size.
    #[arg(long)]
    with_demo: Option<PathBuf>,
    /// How many times everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// One round of small sizes: to see that all parts work.
    #[arg(long)]
    quick: bool,
    /// Also builds the bridge from clean, and tells how long that took and what each crate takes of the binary.
    #[arg(long)]
    build: bool,
    /// Also measures python-kasa and plugp100 on the same simulated plug.
    #[arg(long)]
    peers: bool,
    /// Also measures the frames of the page in Chromium: a Python that has Playwright.
    #[arg(long)]
    browser: Option<PathBuf>,
    /// A Python that has both.
    #[arg(long, default_value = "target/peers/bin/python")]
    python: PathBuf,
    /// Where the figures go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// A document whose part below the marker becomes the tables of this run.
    #[arg(long)]
    markdown: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Latency,
    Isolation,
    Start,
    Stop,
    Scale,
    Sustained,
    Churn,
    Planner,
    Scheduler,
    Sensor,
    Pages,
    Peers,
}

/// How long a part may take. What a quiet machine needs is about a third of it.
const LIMITS: [(Part, Duration); 12] = [
    (Part::Latency, Duration::from_mins(1)),
    (Part::Isolation, Duration::from_mins(1)),
    (Part::Start, Duration::from_mins(2)),
    (Part::Stop, Duration::from_mins(1)),
    (Part::Scale, Duration::from_mins(6)),
    (Part::Sustained, Duration::from_mins(2)),
    (Part::Churn, Duration::from_mins(2)),
    (Part::Planner, Duration::from_mins(1)),
    (Part::Scheduler, Duration::from_mins(1)),
    (Part::Sensor, Duration::from_mins(2)),
    (Part::Pages, Duration::from_mins(6)),
    (Part::Peers, Duration::from_mins(1)),
];

/// How much of each thing is measured.
pub struct Extent {
    /// Commands one after the other.
    commands: usize,
    /// Plugs that a bridge starts with.
    plugs: &'static [usize],
    /// Plugs whose polling is watched.
    scale: &'static [usize],
    /// Strips of three outlets, likewise.
    strips: Option<usize>,
    /// How long processor time is watched: a poll of energy comes each 30 s.
    watched: Duration,
    /// How long commands are sent one after the other.
    sustained: Duration,
    /// Outlets that change while pages are open.
    changing: usize,
    /// How often the broker is cut off.
    cuts: usize,
}

const FULL: Extent = Extent {
    commands: 200,
    plugs: &[1, 100, 1000],
    scale: &[10, 100, 1000],
    strips: Some(1000),
    watched: Duration::from_secs(30),
    sustained: Duration::from_secs(3),
    changing: 1000,
    cuts: 60,
};

const QUICK: Extent = Extent {
    commands: 40,
    plugs: &[1, 20],
    scale: &[10, 100],
    strips: None,
    watched: Duration::from_secs(4),
    sustained: Duration::from_secs(1),
    changing: 100,
    cuts: 5,
};

/// What all parts share.
pub struct Bench {
    binary: PathBuf,
    with_demo: Option<PathBuf>,
    python: Option<PathBuf>,
    /// A Python that drives a browser.
    browser: Option<PathBuf>,
    extent: Extent,
}

impl Bench {
    /// How long the processor time of so many devices is watched: that of few need not be exact.
    fn watched(&self, devices: usize) -> Duration {
        match devices {
            1000.. => self.extent.watched,
            _ => self.extent.watched / 3,
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if held::is_wanted() {
        return held::hold().await;
    }
    let arguments = Arguments::parse();
    let rounds = if arguments.quick { 1 } else { arguments.rounds };
    let (mut origin, mut book) = (Origin::new(rounds), Book::default());
    let bench = Bench {
        binary: arguments.bridge,
        with_demo: arguments.with_demo,
        python: arguments.peers.then_some(arguments.python),
        browser: arguments.browser,
        extent: if arguments.quick { QUICK } else { FULL },
    };
    size::measure(&bench, &mut book);
    if arguments.build {
        size::measure_build(&mut book);
    }
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for (part, limit) in LIMITS {
            let wanted = arguments.only.is_empty() || arguments.only.contains(&part);
            // A minute of cuts each round would be half of the run.
            let repeated = round == 1 || part != Part::Churn;
            if wanted && repeated && timeout(limit, run(part, &bench, &mut book)).await.is_err() {
                book.gave_up(&format!("{part:?} in round {round}"));
            }
        }
        origin.renew_load();
        // After each round, so that a run that is broken off was not for nothing.
        if let Some(file) = &arguments.json {
            report::write_json(file, &origin, &book);
        }
        if let Some(file) = &arguments.markdown {
            report::write_markdown(file, &origin, &book);
        }
    }
    println!("{}", report::markdown(&origin, &book));
}

async fn run(part: Part, bench: &Bench, book: &mut Book) {
    match part {
        Part::Latency => latency::measure(bench, book).await,
        Part::Isolation => isolation::measure(bench, book).await,
        Part::Start => start::measure(bench, book).await,
        Part::Stop => stop::measure(bench, book).await,
        Part::Scale => scale::measure(bench, book).await,
        Part::Sustained => sustained::measure(bench, book).await,
        Part::Churn => churn::measure(bench, book).await,
        Part::Planner => planner::measure(book),
        Part::Scheduler => scheduler::measure(book),
        Part::Sensor => sensor::measure(bench, book).await,
        Part::Pages => pages::measure(bench, book).await,
        Part::Peers => peers::measure(bench, book).await,
    }
}
