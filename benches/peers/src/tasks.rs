//! Clients for tasks, and how they are driven: on a runtime of one thread, which is the quickest where client and
//! server have one processor.

use std::cell::Cell;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::measure::{CROWD, IDLE, Laps, Measure, Outcome, Task, WINDOW, pause, report_rate};

/// One connection, which takes any number of calls at a time.
pub(crate) trait Caller {
    async fn call(&self, payload: &Bytes) -> Outcome<()>;
}

/// Runs a server or a client to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Outcome<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}

/// A client's part.
pub(crate) async fn drive<C: Caller>(task: Task, connect: impl AsyncFn() -> Outcome<C>) -> Outcome<()> {
    let payload = Bytes::from(vec![0x2e; task.measure.payload()]);
    let first = connect().await?;
    first.call(&payload).await?;
    match task.measure {
        Measure::Sequential => {
            count(&[&first], &payload, task.warm_up()).await?;
            let (mut laps, began) = (Laps::begin(), Instant::now());
            while began.elapsed() < task.time {
                first.call(&payload).await?;
                laps.lap();
            }
            laps.report();
        }
        Measure::Window => rate(task, &[&first; WINDOW], &payload).await?,
        Measure::Large => rate(task, &[&first], &payload).await?,
        Measure::Crowd => {
            let mut crowd = Vec::new();
            for _ in 0..CROWD {
                crowd.push(connect().await?);
            }
            rate(task, &crowd.iter().collect::<Vec<_>>(), &payload).await?;
        }
        Measure::Idle => {
            pause("one")?;
            let mut idle = Vec::new();
            for _ in 0..IDLE {
                let one = connect().await?;
                one.call(&payload).await?;
                idle.push(one);
            }
            pause("all")?;
        }
    }
    Ok(())
}

async fn rate<C: Caller>(task: Task, callers: &[&C], payload: &Bytes) -> Outcome<()> {
    count(callers, payload, task.warm_up()).await?;
    let (requests, took) = count(callers, payload, task.time).await?;
    report_rate(task.measure, requests, took);
    Ok(())
}

/// Each of `callers` asks again as soon as it is answered. (Requests, and how long they took.)
async fn count<C: Caller>(callers: &[&C], payload: &Bytes, time: Duration) -> Outcome<(u64, Duration)> {
    let (began, requests) = (Instant::now(), Cell::new(0));
    let ask = async |caller: &C| -> Outcome<()> {
        while began.elapsed() < time {
            caller.call(payload).await?;
            requests.set(requests.get() + 1);
        }
        Ok(())
    };
    match callers {
        [alone] => ask(alone).await?,
        _ => {
            let mut under_way: FuturesUnordered<_> = callers.iter().map(|caller| ask(caller)).collect();
            while let Some(done) = under_way.next().await {
                done?;
            }
        }
    }
    Ok((requests.get(), began.elapsed()))
}
