//! `sidewire-bridge bench`.

use crate::Result;

#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args) -> Result<()> {
    Ok(())
}
