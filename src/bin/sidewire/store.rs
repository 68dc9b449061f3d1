//! The built-in store: what `serve` hosts and `demo` talks to.

use std::time::Instant;

use sidewire::{Server, ServerBuilder, WhenSlow};

use crate::{call_back, count, sleep, stats};

pub(crate) const GET: u16 = 1;
pub(crate) const SET: u16 = 2;
pub(crate) const SET_AND_GET: u16 = 3;
pub(crate) const ECHO: u16 = 4;
pub(crate) const STATISTICS: u16 = 5;
/// The topic of each new value.
pub(crate) const CHANGED: u16 = 1;
/// Types of the dispatch table; those without a handler answer "no handler" (-2).
const TYPES: usize = 16;
/// What the store holds at first.
pub(crate) const GREETING: &[u8] = b"hello, this is server!";

/// A server with the store's handlers and no endpoint yet.
pub(crate) fn server() -> sidewire::Result<Server<Vec<u8>>> {
    server_with(|builder| builder)
}

/// The same with other options.
pub(crate) fn server_with(
    set: impl FnOnce(ServerBuilder<Vec<u8>>) -> ServerBuilder<Vec<u8>>,
) -> sidewire::Result<Server<Vec<u8>>> {
    let mut server = set(Server::builder(GREETING.to_vec()).types(TYPES)).build()?;
    server.on(GET, |value, _request, reply| {
        reply.write(value);
        Ok(())
    });
    server.on(SET, |value, request, _reply| {
        let new = request.to_vec()?;
        request.publish(CHANGED, &new)?;
        *value = new;
        Ok(())
    });
    server.on(SET_AND_GET, |value, request, reply| {
        let new = request.to_vec()?;
        // A value that this client can't take stays: or it would be lost.
        reply.try_write(&*value)?;
        request.publish(CHANGED, &new)?;
        *value = new;
        Ok(())
    });
    // Whoever reads slowly gets the last value all the same.
    server.topic(CHANGED, WhenSlow::KeepLatest);
    server.on(ECHO, |_value, request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    let counters = server.counters();
    let started = Instant::now();
    server.on(STATISTICS, move |value, _request, reply| {
        let statistics = stats::statistics(&counters.stats(), started.elapsed(), value.len());
        reply.write(statistics.to_string());
        Ok(())
    });
    sleep::serve(&mut server);
    count::serve(&mut server);
    call_back::serve(&mut server)?;
    Ok(server)
}
