//! `scripts/bench`: what the bridge costs beside the broker and the `tapo` crate alone, all in one run.

mod bridge;
mod churn;
mod client;
mod figures;
mod fleet;
mod latency;
mod planner;
mod scale;
mod start;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::Parser;
use figures::{Book, Goal};
use tempfile::TempDir;
use tokio::net::TcpStream;

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
    /// Only these parts: latency, isolation, start, scale, churn, planner.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How long the broker is cut off every second, in seconds.
    #[arg(long, default_value_t = 60)]
    churn: u64,
    /// Where the figures go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Where everything is measured.
pub struct Lab {
    pub binary: PathBuf,
    pub broker: SocketAddr,
    mosquitto: Child,
    _home: TempDir,
}

impl Lab {
    async fn open(binary: PathBuf) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let broker = SocketAddr::from((
            Ipv4Addr::new(127, 77, rand::random(), rand::random_range(1..=254)),
            1883,
        ));
        let configuration = home.path().join("mosquitto.conf");
        let text = format!(
            "listener {} {}\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nmax_queued_messages 1000000\nuser root\n",
            broker.port(),
            broker.ip()
        );
        fs::write(&configuration, text).expect("the configuration is written");
        let mut command = Command::new("mosquitto");
        command
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mosquitto = command.spawn().expect("mosquitto is installed");
        let lab = Self {
            binary,
            broker,
            mosquitto,
            _home: home,
        };
        while TcpStream::connect(broker).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        lab
    }

    /// Empties all retained topics, so that the next bridge finds a clean broker.
    pub async fn forget_retained(&self) {
        let mut client = client::Client::connect(self.broker);
        client.erase_retained().await;
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.mosquitto.kill();
        let _ = self.mosquitto.wait();
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = Arguments::parse();
    let wanted = |part: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == part);
    let mut book = Book::default();
    size(&arguments, &mut book);
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        let lab = Lab::open(arguments.bridge.clone()).await;
        if wanted("latency") {
            latency::measure(&lab, &mut book).await;
            lab.forget_retained().await;
        }
        if wanted("isolation") {
            latency::isolation(&lab, &mut book).await;
            lab.forget_retained().await;
        }
        if wanted("start") {
            start::measure(&lab, &mut book).await;
        }
        if wanted("scale") {
            scale::measure(&lab, &mut book).await;
        }
        if wanted("churn") && round == 1 {
            churn::measure(&lab, &mut book, Duration::from_secs(arguments.churn)).await;
        }
        if wanted("planner") {
            planner::measure(&mut book);
        }
    }
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&book).expect("figures are plain");
        fs::write(file, text + "\n").expect("the figures are written");
    }
    println!("{}", book.tables());
}

fn size(arguments: &Arguments, book: &mut Book) {
    const SECTION: &str = "7 Size";
    let megabytes = |file: &PathBuf| fs::metadata(file).expect("the bridge was built").len() as f64 / 1e6;
    let bare = megabytes(&arguments.bridge);
    book.with_goal(
        SECTION,
        "stripped binary without the demo",
        "MB",
        Goal::AtMost(8.0),
        bare,
    );
    if let Some(full) = &arguments.with_demo {
        book.note(SECTION, "the demo on top of it", "MB", megabytes(full) - bare);
    }
}
