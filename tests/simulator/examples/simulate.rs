//! Runs one simulated device until it is interrupted.

use std::net::SocketAddr;

use clap::Parser;
use tapo_simulator::{
    DEFAULT_PASSWORD, DEFAULT_USERNAME, Profile, Protocol, Simulator, SimulatorError, serve_control,
};
use tokio::{net::TcpListener, select};

#[derive(Parser)]
struct Arguments {
    /// P100, P110, P110Old, P300, P304M, P316M, EP40M, HS100, HS110, KP115, HS300, KP303, H100 or KH100
    #[arg(long)]
    profile: Profile,
    /// klap, klapv1, tpap, aes, aesv1 or xor
    #[arg(long, default_value = "klap")]
    protocol: Protocol,
    /// Where the device listens
    #[arg(long, default_value = "127.0.0.1:0")]
    address: SocketAddr,
    /// The account's e-mail
    #[arg(long, default_value = DEFAULT_USERNAME)]
    username: String,
    /// The account's password
    #[arg(long, default_value = DEFAULT_PASSWORD)]
    password: String,
    /// Answer discovery on UDP 20002 of the address
    #[arg(long)]
    discovery: bool,
    /// Where the control endpoint listens
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
}

#[tokio::main]
async fn main() -> Result<(), SimulatorError> {
    let arguments = Arguments::parse();
    let device = Simulator::device(arguments.profile)
        .protocol(arguments.protocol)
        .address(arguments.address)
        .credentials(arguments.username, arguments.password)
        .discovery(arguments.discovery)
        .start()
        .await?;
    let bind_error = |source| SimulatorError::Bind {
        address: arguments.control,
        source,
    };
    let listener = TcpListener::bind(arguments.control).await.map_err(bind_error)?;
    let control = listener.local_addr().map_err(bind_error)?;
    println!("device {}", device.address());
    println!("control http://{control}/");
    select! {
        never = serve_control(listener, vec![device.handle()]) => match never {},
        _ = tokio::signal::ctrl_c() => device.stop().await,
    }
    Ok(())
}
