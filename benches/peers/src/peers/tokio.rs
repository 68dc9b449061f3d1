//! Plain Tokio: a task for each connection that sends back whatever it has read, so without frames or dispatch. It is
//! what an async server can reach at most.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::measure::Outcome;
use crate::peers::ready;
use crate::tasks::block_on;

pub(crate) fn serve(path: &Path) -> Outcome<()> {
    block_on(async {
        let listener = UnixListener::bind(path)?;
        ready("");
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(echo(stream));
        }
    })?
}

async fn echo(mut stream: UnixStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            got => stream.write_all(&buffer[..got]).await?,
        }
    }
}
