//! Sidewire itself, as the README says: a server with its limits, its policy and its counters, and the blocking client.

use std::collections::VecDeque;
use std::path::Path;

use sidewire::{Client, Endpoint, Listen, Pending, Server};

use crate::blocking::{self, Connection};
use crate::measure::{LARGE, Outcome, Task};
use crate::peers::ready;

/// The type that is echoed.
const ECHO: u16 = 4;

pub(crate) fn serve(path: &Path) -> Outcome<()> {
    let mut server = Server::new(());
    server.on(ECHO, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    // Classic requests are small unless a listener says otherwise.
    server.listen(Listen::on(Endpoint::Unix(path.into()))?.classic_max(LARGE as u32))?;
    ready("");
    Ok(server.run()?)
}

pub(crate) fn client(path: &Path, task: Task) -> Outcome<()> {
    blocking::run(task, || {
        let client = Client::connect(Endpoint::Unix(path.into()))?;
        Ok(Calls { client, payload: vec![0x2e; task.measure.payload()], under_way: VecDeque::new() })
    })
}

struct Calls {
    client: Client,
    payload: Vec<u8>,
    under_way: VecDeque<Pending>,
}

impl Connection for Calls {
    fn send(&mut self) -> Outcome<()> {
        self.under_way.push_back(self.client.start(ECHO, &self.payload)?);
        Ok(())
    }

    fn flush(&mut self) -> Outcome<()> {
        Ok(self.client.flush()?)
    }

    fn receive(&mut self) -> Outcome<()> {
        let call = self.under_way.pop_front().ok_or("nothing is asked")?;
        expect(call.wait()?.payload().len(), self.payload.len())
    }

    fn exchange(&mut self, requests: usize) -> Outcome<()> {
        if requests == 1 {
            return expect(self.client.call(ECHO, &self.payload)?.payload().len(), self.payload.len());
        }
        // Those that have begun leave together, when the first is waited for.
        (0..requests).try_for_each(|_| self.send())?;
        (0..requests).try_for_each(|_| self.receive())
    }
}

fn expect(got: usize, sent: usize) -> Outcome<()> {
    if got == sent { Ok(()) } else { Err("the echo has another length".into()) }
}
