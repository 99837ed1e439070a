//! A broker that is cut off every second.

use std::{net::SocketAddr, time::Duration};

use tapo_simulator::Profile;
use tapo2mqtt::system::tasks::Tasks;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    Bench,
    bridge::{Bridge, settings},
    broker::Broker,
    client::Client,
    figures::Book,
    fleet,
    latency::on_off,
};

const SECTION: &str = "Churn";
const PLUGS: usize = 5;
/// Between two commands to each plug; the broker is cut off after every second one.
const PAUSE: Duration = Duration::from_millis(500);

pub async fn measure(bench: &Bench, book: &mut Book) {
    let plugs = fleet::devices(Profile::P110, PLUGS).await;
    let broker = Broker::start().await;
    let (cut, proxy) = proxy(broker.address).await;
    let mut client = Client::connect(broker.address);
    client.subscribe("tapo2mqtt/+/availability").await;
    let bridge = Bridge::start(
        &bench.binary,
        &settings(proxy, &fleet::addresses(&plugs), "", "auto"),
    );
    client.wait_online(PLUGS).await;
    let (started, cpu, mut memory) = (Instant::now(), bridge.cpu(), Vec::new());
    for round in 0..2 * bench.extent.cuts {
        for device in 0..PLUGS {
            client.command(device, on_off(round)).await;
        }
        sleep(PAUSE).await;
        if round % 2 == 1 {
            memory.push(bridge.memory());
            cut.send_modify(|generation| *generation += 1);
        }
    }
    let load = (bridge.cpu() - cpu) / started.elapsed().as_secs_f64() * 100.0;
    bridge.stop().await;
    let cuts = memory.len();
    book.note(SECTION, "cuts of the broker", "", cuts as f64);
    for (what, after) in [("a tenth", cuts / 10), ("half", cuts / 2), ("all", cuts - 1)] {
        let memory = memory.get(after).copied().unwrap_or(f64::NAN);
        let name = format!("resident memory after {what} of them");
        book.note(SECTION, name, "MB", memory);
    }
    book.note(SECTION, "processor meanwhile", "% of a core", load);
}

/// Passes bytes on until the next cut.
async fn proxy(broker: SocketAddr) -> (watch::Sender<u32>, SocketAddr) {
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
