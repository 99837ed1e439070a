//! What open pages cost commands, and what a browser makes of a thousand outlets that change.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tapo_simulator::{Profile, RunningDevice};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use crate::{
    Bench,
    broker::own_host,
    figures::{Book, Goal, Samples},
    fleet,
    latency::one_at_a_time,
    site::Site,
};

const SECTION: &str = "Pages";
/// As many as the bridge serves at once.
const PAGES: usize = 32;
/// How often each outlet changes: as often as it is polled.
const EACH: Duration = Duration::from_secs(5);
/// All numbers of pages are measured this often in turn, so that other load of the machine is the same for all.
const TURNS: usize = 4;

/// Commands that are sent together, and how long they may take.
const BATCH: usize = 10;
const BATCH_LIMIT: Duration = Duration::from_secs(10);

/// How many pages are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    None,
    All,
    /// One of them never reads.
    OneStuck,
}

const OPEN: [(Open, &str); 3] = [
    (Open::None, "no page"),
    (Open::All, "32 pages"),
    (Open::OneStuck, "31 pages and one that never reads"),
];

pub async fn measure(bench: &Bench, book: &mut Book) {
    let count = bench.extent.changing;
    let address = format!("{}:8099", own_host());
    let mut devices = fleet::devices(Profile::P110, count).await;
    let more = format!("[web]\nenabled = true\nlisten = \"{address}\"\n");
    let mut site = Site::open(&bench.binary, &fleet::addresses(&devices), &more).await;
    let plug = devices.remove(0);
    let mut changes = JoinSet::new();
    changes.spawn(change(devices));

    let of = format!("{count} outlets, each changes every 5 s");
    sleep(EACH).await;
    let memory = site.bridge.memory();
    let open = pages(&address, Open::All).await;
    sleep(EACH).await;
    let name = format!("{of}: resident memory that {PAGES} pages add");
    book.note(SECTION, name, "MB", site.bridge.memory() - memory);
    drop(open);

    let mut taken: [Samples; OPEN.len()] = Default::default();
    for _ in 0..TURNS {
        for ((open, _), samples) in OPEN.iter().zip(&mut taken) {
            let _pages = pages(&address, *open).await;
            // The first of what a page gets is all that there is.
            sleep(Duration::from_secs(1)).await;
            for _ in 0..(2 * bench.extent.commands).div_ceil(TURNS * BATCH) {
                let batch = one_at_a_time(&mut site.client, &plug, BATCH);
                // Where the machine does something else for seconds, a command fails, and its state never comes.
                if let Ok(taken) = timeout(BATCH_LIMIT, batch).await {
                    samples.extend(taken.state);
                }
            }
        }
    }
    let [alone, ..] = &taken;
    for ((open, name), samples) in OPEN.iter().zip(&taken) {
        for (rank, word) in [(0.5, "p50"), (0.99, "p99")] {
            let figure = format!("{of}, {name}: command → confirmed state, {word}");
            book.note(SECTION, &figure, "ms", samples.rank(rank));
            if *open != Open::None {
                let goal = Goal::AtMost(1.2);
                let ratio = samples.rank(rank) / alone.rank(rank);
                book.with_goal(SECTION, format!("{figure}: ratio to no page"), "×", goal, ratio);
            }
        }
    }
    if let Some(python) = &bench.browser {
        frames(python, &address, &of, book).await;
    }
    drop(changes);
    site.bridge.stop().await;
}

/// Presses the buttons of all in turn, for ever.
async fn change(devices: Vec<RunningDevice>) {
    let mut pace = interval(EACH / u32::try_from(devices.len()).unwrap_or(u32::MAX).max(1));
    for device in devices.iter().cycle() {
        pace.tick().await;
        device.press(1).expect("a relay");
    }
}

/// Pages that read, until they are dropped.
async fn pages(address: &str, open: Open) -> (JoinSet<()>, Option<TcpStream>) {
    let mut reading = JoinSet::new();
    let (count, stuck) = match open {
        Open::None => return (reading, None),
        Open::All => (PAGES, None),
        Open::OneStuck => (PAGES - 1, Some(page(address).await)),
    };
    for _ in 0..count {
        let mut stream = page(address).await;
        reading.spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
        });
    }
    (reading, stuck)
}

async fn page(address: &str) -> TcpStream {
    loop {
        let mut stream = TcpStream::connect(address).await.expect("the page listens");
        let request = format!("GET /api/events HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("the page reads");
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.expect("the page answers");
        // The places of pages that were closed are free a moment later.
        if head.ends_with(b"200") {
            return stream;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// What frames cost in a real browser.
async fn frames(python: &Path, address: &str, of: &str, book: &mut Book) {
    let run = Command::new(python)
        .args(["tests/web/frames", &format!("http://{address}/")])
        .stderr(Stdio::inherit())
        .output();
    let output = run.await.expect("Python starts");
    assert!(output.status.success(), "tests/web/frames: {}", output.status);
    let shown: Value = serde_json::from_slice(&output.stdout).expect("tests/web/frames prints figures");
    for (view, figures) in shown.as_object().into_iter().flatten() {
        for (figure, value) in figures.as_object().into_iter().flatten() {
            let goal = figure.contains("task, max").then_some(Goal::AtMost(50.0));
            let name = format!("{of}, browser, {view}: {figure}");
            book.with_goal(SECTION, name, "", goal, value.as_f64().unwrap_or(f64::NAN));
        }
    }
}
