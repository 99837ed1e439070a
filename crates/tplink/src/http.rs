//! HTTP to one device: one kept connection, one request at a time, every size and time bounded.
//!
//! It follows no redirect, knows no proxy and decodes nothing. A request drives its connection, so no task is needed, and
//! what it reads into ends with it: the buffers of a general client would be most of the memory that a device takes. A
//! connection that the device closed while it was idle is seen before anything is sent.

mod connection;
mod cookie;
mod link;
mod reply;
mod reply_head;
mod token;

pub(crate) use self::{connection::NOT_HTTP, cookie::Cookie, link::HttpLink, reply::HttpReply, token::token};
