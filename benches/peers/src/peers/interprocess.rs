//! interprocess: streams, without frames or dispatch. As in its examples, which block and read through a `BufReader`;
//! with a thread for each connection, which they leave open.

use std::io::{BufReader, Read, Write};
use std::path::Path;

use interprocess::local_socket::prelude::*;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, Stream};

use crate::blocking::{self, Connection};
use crate::measure::{LARGE, Outcome, Task};
use crate::peers::ready;

const HEADER: usize = 16;

pub(crate) fn serve(path: &Path) -> Outcome<()> {
    let name = path.to_fs_name::<GenericFilePath>()?;
    let listener = ListenerOptions::new().name(name).create_sync()?;
    ready("");
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || echo(stream));
    }
    Ok(())
}

/// Until the client has gone.
fn echo(stream: Stream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut frame = vec![0; HEADER];
    loop {
        stream.read_exact(&mut frame[..HEADER])?;
        let length = u32::from_ne_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        if length > LARGE {
            return Ok(());
        }
        if frame.len() < HEADER + length {
            frame.resize(HEADER + length, 0);
        }
        stream.read_exact(&mut frame[HEADER..HEADER + length])?;
        stream.get_mut().write_all(&frame[..HEADER + length])?;
    }
}

pub(crate) fn client(path: &Path, task: Task) -> Outcome<()> {
    blocking::run(task, || {
        let stream = BufReader::new(Stream::connect(path.to_fs_name::<GenericFilePath>()?)?);
        let length = task.measure.payload();
        let mut request = vec![0x2e; HEADER + length];
        request[..4].copy_from_slice(&(length as u32).to_ne_bytes());
        Ok(Frames { stream, reply: vec![0; request.len()], request })
    })
}

struct Frames {
    stream: BufReader<Stream>,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Connection for Frames {
    fn send(&mut self) -> Outcome<()> {
        Ok(self.stream.get_mut().write_all(&self.request)?)
    }

    fn receive(&mut self) -> Outcome<()> {
        Ok(self.stream.read_exact(&mut self.reply)?)
    }
}
