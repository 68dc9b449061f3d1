//! ipc-channel: a pair of channels for bytes, which its documents name for payloads that are bytes. It joins two
//! processes and has no server for many.

use ipc_channel::IpcError;
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

use crate::blocking::{self, Connection};
use crate::measure::{Outcome, Task};
use crate::peers::ready;

type Ends = (IpcBytesReceiver, IpcBytesSender);

pub(crate) fn serve() -> Outcome<()> {
    let (server, name) = IpcOneShotServer::<Ends>::new()?;
    ready(&name);
    let (_, (requests, replies)) = server.accept()?;
    loop {
        match requests.recv() {
            Ok(request) => replies.send(&request)?,
            Err(IpcError::Disconnected) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

pub(crate) fn client(name: &str, task: Task) -> Outcome<()> {
    blocking::run(task, || {
        let (requests, served) = ipc::bytes_channel()?;
        let (answers, replies) = ipc::bytes_channel()?;
        IpcSender::<Ends>::connect(name.to_owned())?.send((served, answers))?;
        Ok(Channels { requests, replies, payload: vec![0x2e; task.measure.payload()] })
    })
}

struct Channels {
    requests: IpcBytesSender,
    replies: IpcBytesReceiver,
    payload: Vec<u8>,
}

impl Connection for Channels {
    fn send(&mut self) -> Outcome<()> {
        Ok(self.requests.send(&self.payload)?)
    }

    fn receive(&mut self) -> Outcome<()> {
        let reply = self.replies.recv()?;
        if reply.len() == self.payload.len() { Ok(()) } else { Err("the echo has another length".into()) }
    }
}
