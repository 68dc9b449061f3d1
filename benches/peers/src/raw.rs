//! The client of those who serve bytes: it sends prepared requests and only counts the bytes of the replies, so it is
//! the least that a client can cost.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};

use crate::blocking::{self, Connection};
use crate::measure::{Measure, Outcome, Task, WINDOW};

/// What a request looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Sidewire's v1 header, behind a hello. Its ids rise.
    V1,
    /// Sidewire's classic header.
    Classic,
    /// Redis' ECHO.
    Redis,
    /// Sixteen bytes of header that say how long it is, for a server that waits for the whole of it.
    Frames,
    /// The same, for a server that sends back whatever it has read.
    Bytes,
}

pub(crate) fn run(form: Form, path: &Path, task: Task) -> Outcome<()> {
    blocking::run(task, || Raw::connect(form, path, task.measure))
}

struct Raw {
    stream: UnixStream,
    form: Form,
    /// As many requests as are sent at once, one behind the other.
    requests: Vec<u8>,
    request: usize,
    reply: usize,
    /// Of the last request.
    id: u32,
    input: Vec<u8>,
}

impl Raw {
    fn connect(form: Form, path: &Path, measure: Measure) -> Outcome<Raw> {
        let mut stream = UnixStream::connect(path)?;
        if form == Form::V1 {
            shake_hands(&mut stream)?;
        }
        let (one, reply) = form.request(measure.payload());
        let count = if measure == Measure::Window { WINDOW } else { 1 };
        let (request, input) = (one.len(), vec![0; count * reply]);
        Ok(Raw { stream, form, requests: one.repeat(count), request, reply, id: 0, input })
    }

    /// Gives the next so many requests ids of their own.
    fn number(&mut self, requests: usize) {
        if self.form != Form::V1 {
            return;
        }
        for request in self.requests.chunks_exact_mut(self.request).take(requests) {
            self.id += 1;
            request[8..12].copy_from_slice(&self.id.to_le_bytes());
        }
    }

    /// Writes and reads at the same time, or a large request would wait for its own reply.
    fn exchange_bytes(&mut self) -> Outcome<()> {
        let (mut sent, mut got) = (0, 0);
        self.stream.set_nonblocking(true)?;
        while got < self.reply {
            let before = (sent, got);
            if sent < self.request {
                sent += or_later(self.stream.write(&self.requests[sent..self.request]))?;
            }
            got += or_later(self.stream.read(&mut self.input[got..self.reply]))?;
            if before == (sent, got) {
                let wanted = if sent < self.request { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                poll(&mut [PollFd::new(&self.stream, wanted)], None)?;
            }
        }
        Ok(())
    }
}

impl Connection for Raw {
    fn send(&mut self) -> Outcome<()> {
        self.number(1);
        Ok(self.stream.write_all(&self.requests[..self.request])?)
    }

    fn receive(&mut self) -> Outcome<()> {
        Ok(self.stream.read_exact(&mut self.input[..self.reply])?)
    }

    fn exchange(&mut self, requests: usize) -> Outcome<()> {
        // Less than that fits into the socket's buffers.
        if self.form == Form::Bytes && self.request > 1 << 16 {
            return self.exchange_bytes();
        }
        self.number(requests);
        self.stream.write_all(&self.requests[..requests * self.request])?;
        Ok(self.stream.read_exact(&mut self.input[..requests * self.reply])?)
    }
}

fn or_later(moved: std::io::Result<usize>) -> std::io::Result<usize> {
    match moved {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        moved => moved,
    }
}

impl Form {
    /// A request, and how many bytes answer it.
    fn request(self, payload: usize) -> (Vec<u8>, usize) {
        let length = (payload as u32).to_ne_bytes();
        let mut bytes = match self {
            // Length, kind 1, no flags, type 4, id, no time limit.
            Form::V1 => [&(payload as u32).to_le_bytes()[..], &[1, 0, 4, 0], &[0; 8]].concat(),
            // Type 4, rc, length.
            Form::Classic => [&4_i32.to_ne_bytes()[..], &[0; 4], &length].concat(),
            Form::Redis => format!("*2\r\n$4\r\nECHO\r\n${payload}\r\n").into_bytes(),
            Form::Frames | Form::Bytes => [&length[..], &[0; 12]].concat(),
        };
        bytes.resize(bytes.len() + payload, 0x2e);
        match self {
            Form::Redis => {
                bytes.extend_from_slice(b"\r\n");
                (bytes, format!("${payload}\r\n").len() + payload + 2)
            }
            _ => {
                let reply = bytes.len();
                (bytes, reply)
            }
        }
    }
}

fn shake_hands(stream: &mut UnixStream) -> Outcome<()> {
    let mut hello = vec![0xD1, 0x53, 0x57, 0xD1, 48, 0, 1, 1];
    // Features, offered and required; payload, calls and bytes in flight; credit; nonce.
    for number in [0_u32, 0, 16 << 20, 4_096, 64 << 20, 0, 0, 0, 0, 0] {
        hello.extend_from_slice(&number.to_le_bytes());
    }
    stream.write_all(&hello)?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    let rest = usize::from(u16::from_le_bytes([answer[4], answer[5]])) - answer.len();
    Ok(stream.read_exact(&mut vec![0; rest])?)
}
