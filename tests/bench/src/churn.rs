//! A broker that is cut off every second.

use std::time::Duration;

use tapo_simulator::Profile;
use tapo2mqtt::tasks::Tasks;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    Lab,
    bridge::{Bridge, settings},
    client::Client,
    figures::Book,
    fleet,
    latency::{on_off, wait_online},
};

const SECTION: &str = "5 Churn";
const PLUGS: usize = 5;

pub async fn measure(lab: &Lab, book: &mut Book, lasting: Duration) {
    let plugs = fleet::devices(Profile::P110, PLUGS).await;
    let (cut, proxy) = proxy(lab.broker).await;
    let mut client = Client::connect(lab.broker);
    let bridge = Bridge::start(&lab.binary, &settings(proxy, &fleet::addresses(&plugs), ""));
    wait_online(&mut client, PLUGS).await;
    let (since, mut early) = (Instant::now(), None);
    let (mut cuts, mut round) = (0_u32, 0);
    while since.elapsed() < lasting {
        for number in 0..PLUGS {
            client
                .publish(&format!("tapo2mqtt/d{number}/set"), on_off(round))
                .await;
        }
        round += 1;
        sleep(Duration::from_millis(500)).await;
        if round % 2 == 0 {
            cut.send_modify(|generation| *generation += 1);
            cuts += 1;
        }
        if since.elapsed() > lasting / 10 {
            early.get_or_insert_with(|| bridge.memory());
        }
    }
    let (early, late) = (early.unwrap_or(f64::NAN), bridge.memory());
    book.note(SECTION, "cuts of the broker", "", f64::from(cuts));
    book.note(SECTION, "resident memory after a tenth of them", "MB", early);
    book.note(SECTION, "resident memory after all of them", "MB", late);
    book.note(
        SECTION,
        "processor meanwhile",
        "% of a core",
        bridge.cpu() / since.elapsed().as_secs_f64() * 100.0,
    );
    bridge.stop().await;
    lab.forget_retained().await;
}

/// Passes bytes on until the next cut.
async fn proxy(broker: std::net::SocketAddr) -> (watch::Sender<u32>, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (cut, generation) = watch::channel(0);
    let tasks = Tasks::default();
    let wires = tasks.clone();
    tasks.spawn("proxy", async move {
        while let Ok((mut ours, _)) = listener.accept().await {
            let mut generation = generation.clone();
            generation.mark_unchanged();
            wires.spawn("wire", async move {
                let Ok(mut theirs) = TcpStream::connect(broker).await else {
                    return;
                };
                tokio::select! {
                    _ = copy_bidirectional(&mut ours, &mut theirs) => {}
                    _ = generation.changed() => {}
                }
            });
        }
    });
    (cut, address)
}
