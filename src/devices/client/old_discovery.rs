//! Discovery of old Kasa devices on UDP 9999: they answer with what they are.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    time::{Instant, sleep_until, timeout_at},
};

use super::discovery::Discovered;

const PORT: u16 = 9999;
/// The answer of a strip has 2 kB.
const LARGEST: usize = 16 * 1024;
/// A datagram may be lost.
const QUERIES: u32 = 2;

/// Queries broadcast or single addresses for `wait`. Ends earlier once every address answered.
pub(super) async fn discover_old(targets: &[IpAddr], wait: Duration) -> HashMap<IpAddr, Discovered> {
    let mut found = HashMap::new();
    let _unreachable = query(targets, wait, &mut found).await;
    found
}

async fn query(
    targets: &[IpAddr],
    wait: Duration,
    found: &mut HashMap<IpAddr, Discovered>,
) -> io::Result<()> {
    // They have no IPv6.
    let targets: Vec<_> = targets.iter().filter(|target| target.is_ipv4()).collect();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.set_broadcast(true)?;
    let query = tplink::sysinfo_query();
    let mut buffer = vec![0; LARGEST];
    let begin = Instant::now();
    for round in 1..=QUERIES {
        for target in &targets {
            let _unreachable = socket.send_to(&query, (**target, PORT)).await;
        }
        let end = begin + wait * round / QUERIES;
        while let Ok(received) = timeout_at(end, socket.recv_from(&mut buffer)).await {
            let Ok((length, from)) = received else {
                sleep_until(end).await;
                break;
            };
            let answer = buffer.get(..length).unwrap_or_default();
            if let Some(sysinfo) = tplink::sysinfo_answer(answer) {
                found.insert(from.ip(), Discovered::of_old(from.ip(), &sysinfo));
            }
            if targets.iter().all(|target| found.contains_key(*target)) {
                return Ok(());
            }
        }
    }
    Ok(())
}
