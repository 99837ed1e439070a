//! Discovery on UDP 20002: a 16-byte header and JSON, both ways. Devices that speak XOR are asked on UDP 9999 instead.

use std::{future::pending, io, net::SocketAddr};

use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::{
    Protocol, SimulatorError, core::Core, crypto::md5_hex, methods::distort, network::when_free, tpap, xor,
};

/// The port that devices are asked on.
const PORT: u16 = 20002;
const XOR_PORT: u16 = 9999;
/// Version, type, operation (2), length (2), flags, padding, serial (4), checksum (4).
const HEADER: usize = 16;
const CHECKSUM: std::ops::Range<usize> = 12..16;
/// What stands in for the checksum while it is computed.
const CHECKSUM_SEED: [u8; 4] = 0x5a6b_7c8d_u32.to_be_bytes();
const VERSION: u8 = 2;
const LARGEST: usize = 2048;

/// Takes the discovery port on the device's own address.
pub(crate) async fn bind(address: SocketAddr, protocol: Protocol) -> Result<UdpSocket, SimulatorError> {
    let port = if protocol == Protocol::Xor { XOR_PORT } else { PORT };
    let address = SocketAddr::new(address.ip(), port);
    when_free(address, || UdpSocket::bind(address)).await
}

pub(crate) async fn receive(socket: Option<&UdpSocket>) -> io::Result<(Vec<u8>, SocketAddr)> {
    let Some(socket) = socket else {
        return pending().await;
    };
    let mut buffer = vec![0; LARGEST];
    let (length, from) = socket.recv_from(&mut buffer).await?;
    buffer.truncate(length);
    Ok((buffer, from))
}

/// The answer to a datagram; none if it asks for nothing.
pub(crate) fn answer(core: &Core, datagram: &[u8]) -> Option<Vec<u8>> {
    if core.native_protocol == Protocol::Xor {
        xor::answer(core, datagram)
    } else {
        is_query(datagram).then(|| announce(core, datagram))
    }
}

/// Whether a datagram asks for the devices there are: version, length and checksum must be right, and
/// it must carry the asker's RSA key.
fn is_query(datagram: &[u8]) -> bool {
    let Some((header, payload)) = datagram.split_at_checked(HEADER) else {
        return false;
    };
    let checksum_holds = header.get(CHECKSUM) == Some(&checksum(datagram)[..]);
    let has_key = || {
        let query: Value = serde_json::from_slice(payload).unwrap_or_default();
        query.pointer("/params/rsa_key").is_some_and(Value::is_string)
    };
    header.first() == Some(&VERSION) && checksum_holds && has_key()
}

/// The answer to a query.
fn announce(core: &Core, query: &[u8]) -> Vec<u8> {
    let payload = announcement(core).to_string().into_bytes();
    let serial = query.get(8..12).unwrap_or(&[0; 4]);
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut datagram = vec![VERSION, 0, 0, 1];
    datagram.extend(length);
    datagram.extend([17, 0]);
    datagram.extend(serial);
    datagram.extend(CHECKSUM_SEED);
    datagram.extend(payload);
    let checksum = checksum(&datagram);
    for (byte, right) in datagram.iter_mut().skip(CHECKSUM.start).zip(checksum) {
        *byte = right;
    }
    datagram
}

fn checksum(datagram: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(datagram.get(..CHECKSUM.start).unwrap_or_default());
    hasher.update(&CHECKSUM_SEED);
    hasher.update(datagram.get(HEADER..).unwrap_or_default());
    hasher.finalize().to_be_bytes()
}

fn announcement(core: &Core) -> Value {
    let address = core.address();
    let protocol = core.protocol();
    let encryption = match protocol {
        Protocol::Klap | Protocol::KlapV1 => "KLAP",
        Protocol::Tpap => "TPAP",
        Protocol::Aes | Protocol::AesV1 => "AES",
        Protocol::Xor => "XOR",
    };
    let device_type = if core.is_iot() {
        "IOT.SMARTPLUGSWITCH"
    } else {
        core.spec.device_type
    };
    let mut result = json!({
        "device_id": core.identity.discovery_id,
        "device_model": core.spec.device_model,
        "device_type": device_type,
        "factory_default": false,
        "ip": address.ip().to_string(),
        "is_support_iot_cloud": true,
        "mac": core.identity.mac(),
        "mgt_encrypt_schm": {
            "encrypt_type": encryption,
            "http_port": address.port(),
            "is_support_https": false,
            "lv": 2,
        },
        "obd_src": "tplink",
        "owner": md5_hex(core.account.username.as_bytes()).to_uppercase(),
        "protocol_version": 1,
        "tpap_preferred": protocol == Protocol::Tpap,
    });
    if matches!(protocol, Protocol::KlapV1 | Protocol::AesV1)
        && let Some(Value::Object(scheme)) = result.get_mut("mgt_encrypt_schm")
    {
        scheme.remove("lv");
    }
    if protocol == Protocol::Tpap
        && let Value::Object(result) = &mut result
    {
        result.insert("tpap".to_owned(), tpap::announcement(address.port()));
    }
    distort(core, &mut result);
    json!({ "error_code": 0, "result": result })
}
