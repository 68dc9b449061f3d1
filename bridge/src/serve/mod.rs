//! `sidewire-bridge serve`: the types of a local server behind subjects, for whoever asks on the broker.

mod call;
mod discovery;
mod events;
mod intake;
mod local;
mod open;
mod owner;
mod relay;
mod room;
mod tenure;

use std::path::PathBuf;
use std::time::Duration;

use sidewire::Endpoint;

use crate::broker::Broker;
use crate::message::Subjects;
use crate::options::{self, BrokerOptions, Who};
use crate::types::{self, Types};
use crate::{Result, Stop, stopped};
use local::Local;
use owner::{Ownership, Side};
use tenure::{Ended, Tenure};

/// Puts a local server behind the subjects sw.NAME.TYPE, for sidewire-bridge connect elsewhere
///
/// When calls can come it prints a line `serving NAME …`. It serves until Ctrl-C, SIGTERM or SIGHUP; what it has taken by
/// then has five seconds to be answered, or fails (-10). While the local server is away others serve the app, or nobody
/// does, and callers hear so at once; when it is back, so are we.
///
/// One bridge alone serves an app, since what a server keeps would otherwise be in two places: a second one is refused.
/// With --shared, said by all of them, any number serve it, and each call goes to one of these.
///
/// `nats req '$SRV.INFO.NAME' ''` shows what is served, `$SRV.STATS.NAME` how often it was asked.
///
/// Exit status: 0 stopped
///              1 the local server or the broker is not there, or does not want us; another bridge serves the app
///              2 usage: a bad endpoint or argument
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Where the server is: local:NAME, unix:/PATH, abstract:NAME, pipe:NAME, tcp:HOST:PORT
    #[arg(value_name = "ENDPOINT")]
    endpoint: Endpoint,
    #[command(flatten)]
    broker: BrokerOptions,
    /// Serve it together with others, who say so, too: for servers that keep nothing, or keep it in one place
    #[arg(long)]
    shared: bool,
    /// The types that are served, as 1-8,12 [default: those that the server describes]
    #[arg(long, value_name = "TYPES", value_parser = types::parse)]
    types: Option<Types>,
    /// The topics whose events are published [default: those that the server describes]
    #[arg(long, value_name = "TOPICS", value_parser = types::parse)]
    events: Option<Types>,
    /// Whose server it may be
    #[arg(long, value_name = "WHO", default_value = "same-user")]
    access: Who,
    /// Prove that we know the key in this file, and have the server prove the same
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The most calls that the server has at a time; more are answered busy (-6)
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_calls: u32,
}

/// How long after the local server was not there it is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(crate) async fn run(args: Args, mut stop: Stop) -> Result<()> {
    let broker = Broker::connect(&args.broker, options::WAITING_MESSAGES).await?;
    // Who is not there at the beginning was not meant.
    let mut local = Some(Local::open(&args).await?);
    let (subjects, instance) = (Subjects::of(&args.broker.app), broker.unique());
    let side = if args.shared { Side::Shared } else { Side::Alone };
    let ownership = Ownership::claim(&broker, &subjects, &instance, side);
    let mut ownership = tokio::select! {
        claimed = ownership => claimed?,
        () = stopped(&mut stop) => return Ok(()),
        why = broker.closed() => return Err(why),
    };
    let mut closed = std::pin::pin!(broker.closed());
    loop {
        let found = match local.take() {
            Some(local) => Some(local),
            None => tokio::select! {
                found = look_again(&args) => found,
                () = stopped(&mut stop) => return Ok(()),
                why = ownership.lost() => return Err(why),
                why = &mut closed => return Err(why),
            },
        };
        let Some(local) = found else { continue };
        // It waits for the broker, where that is away.
        let mut tenure = tokio::select! {
            begun = Tenure::begin(&args, &broker, &subjects, &instance, local) => begun?,
            () = stopped(&mut stop) => return Ok(()),
            why = &mut closed => return Err(why),
        };
        let ended = tenure.serve(async {
            tokio::select! {
                () = stopped(&mut stop) => Ended::Stopped,
                why = ownership.lost() => Ended::Failed(why),
                why = &mut closed => Ended::Failed(why),
            }
        });
        let ended = ended.await;
        tenure.end(&ended).await;
        match ended {
            Ended::LocalGone(why) => log::warn!("{why}; {} is not served until it is back", args.broker.app),
            Ended::Stopped => return Ok(()),
            Ended::Failed(why) => return Err(why),
        }
    }
}

async fn look_again(args: &Args) -> Option<Local> {
    tokio::time::sleep(LOOK_AGAIN).await;
    match Local::open(args).await {
        Ok(local) => Some(local),
        Err(why) => {
            log::debug!("{why}");
            None
        }
    }
}
