//! `simulate`: one simulated device, to try and test without hardware.

use std::net::SocketAddr;

use jiff::tz::TimeZone;
use tapo_simulator::{Simulator, serve_control};
use tokio::{
    net::TcpListener,
    signal::{self, unix::Signal},
};

use super::{ExitError, output};
use crate::{
    cli::SimulateArgs,
    system::telemetry::{self, Format, Level},
};

pub(super) async fn simulate(args: SimulateArgs, hangup: &mut Signal) -> Result<(), ExitError> {
    telemetry::start(Level::Info, Format::Text, &TimeZone::system())?;
    let seed = args.seed.unwrap_or_else(|| seed_of(args.address));
    let mut device = Simulator::device(args.profile)
        .address(args.address)
        .credentials(args.username.clone(), args.password)
        .protocol(args.protocol)
        .discovery(args.discovery)
        .seed(seed);
    if let Some(name) = args.name {
        device = device.nickname(name);
    }
    let device = device.start().await?;
    output::print(&format!(
        "{} of {} listens on {} with {}\n",
        args.profile,
        args.username,
        device.address(),
        args.protocol
    ))?;
    let stopped = async {
        tokio::select! {
            interrupted = signal::ctrl_c() => interrupted,
            // Its terminal was closed.
            _ = hangup.recv() => Ok(()),
        }
    };
    match args.control {
        Some(address) => {
            let listener = TcpListener::bind(address).await?;
            output::print(&format!(
                "faults and counters: http://{}/\n",
                listener.local_addr()?
            ))?;
            tokio::select! {
                never = serve_control(listener, vec![device.handle()]) => match never {},
                stopped = stopped => stopped?,
            }
        }
        None => stopped.await?,
    }
    device.stop().await;
    Ok(())
}

/// The same at each start, and another one for each address (FNV-1a).
fn seed_of(address: SocketAddr) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    address.to_string().bytes().fold(0xcbf2_9ce4_8422_2325, step)
}
