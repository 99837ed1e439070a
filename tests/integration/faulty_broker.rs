//! A broker with a defect that no real one shows on demand.

use std::{io, net::SocketAddr};

use bytes::BytesMut;
use rumqttc::{ConnAck, ConnectReturnCode, Packet, PubAck, QoS, SubAck, SubscribeReasonCode};
use tapo2mqtt::system::tasks::Tasks;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A broker that never acknowledges the first publish of its first connection, and is right in all else.
pub struct FaultyBroker {
    pub address: SocketAddr,
    /// The payloads of all publishes, in their order.
    pub received: watch::Receiver<Vec<String>>,
}

/// How often the broker fails.
#[derive(Default)]
struct Defects {
    /// Publishes that are not acknowledged.
    forget: u32,
    /// Subscriptions that are denied.
    deny: u32,
    /// The connection is closed at a subscription.
    hang_up: bool,
}

impl FaultyBroker {
    /// Listens on a free port.
    pub fn start() -> Self {
        Self::with(Defects {
            forget: 1,
            ..Defects::default()
        })
    }

    /// One that acknowledges everything and denies the first SUBSCRIBE, as a cluster without a leader does.
    pub fn that_denies_once() -> Self {
        Self::with(Defects {
            deny: 1,
            ..Defects::default()
        })
    }

    /// One that accepts each connection and closes it.
    pub fn that_hangs_up() -> Self {
        Self::with(Defects {
            hang_up: true,
            ..Defects::default()
        })
    }

    fn with(mut defects: Defects) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = watch::channel(Vec::new());
        let listener = TcpListener::from_std(listener).unwrap();
        Tasks::default().spawn("faulty broker", async move {
            while let Ok((client, _)) = listener.accept().await {
                let _ = Self::serve(client, &sender, &mut defects).await;
            }
        });
        Self { address, received }
    }

    async fn serve(
        mut client: TcpStream,
        received: &watch::Sender<Vec<String>>,
        defects: &mut Defects,
    ) -> io::Result<()> {
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        while client.read_buf(&mut input).await? > 0 {
            while let Ok(packet) = Packet::read(&mut input, usize::MAX) {
                let answer = match packet {
                    Packet::Connect(_) => Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false)),
                    Packet::Subscribe(_) if defects.hang_up => return Ok(()),
                    Packet::Subscribe(subscribe) => {
                        let code = if defects.deny > 0 {
                            defects.deny -= 1;
                            SubscribeReasonCode::Failure
                        } else {
                            SubscribeReasonCode::Success(QoS::AtLeastOnce)
                        };
                        Packet::SubAck(SubAck::new(subscribe.pkid, vec![code; subscribe.filters.len()]))
                    }
                    Packet::PingReq => Packet::PingResp,
                    Packet::Publish(publish) => {
                        received.send_modify(|all| {
                            all.push(String::from_utf8_lossy(&publish.payload).into_owned());
                        });
                        if defects.forget > 0 {
                            defects.forget -= 1;
                            continue;
                        }
                        Packet::PubAck(PubAck::new(publish.pkid))
                    }
                    _ => return Ok(()),
                };
                answer.write(&mut output, usize::MAX).unwrap();
            }
            client.write_all_buf(&mut output).await?;
        }
        Ok(())
    }
}
