//! Clients that block, and how they are driven.

use std::time::{Duration, Instant};

use crate::measure::{CROWD, IDLE, Laps, Measure, Outcome, Task, WINDOW, pause, report_rate};

/// One connection. The payload is the same for each request, and was said when it was made.
pub(crate) trait Connection {
    /// Begins a request.
    fn send(&mut self) -> Outcome<()>;

    /// All that are to be under way have begun.
    fn flush(&mut self) -> Outcome<()> {
        Ok(())
    }

    /// Takes the reply to the oldest request.
    fn receive(&mut self) -> Outcome<()>;

    /// Asks so many at once, and takes their replies.
    fn exchange(&mut self, requests: usize) -> Outcome<()> {
        for _ in 0..requests {
            self.send()?;
        }
        self.flush()?;
        for _ in 0..requests {
            self.receive()?;
        }
        Ok(())
    }
}

pub(crate) fn run<C: Connection>(task: Task, connect: impl Fn() -> Outcome<C>) -> Outcome<()> {
    let mut first = connect()?;
    first.exchange(1)?;
    match task.measure {
        Measure::Sequential => {
            repeat(task.warm_up(), || first.exchange(1))?;
            let mut laps = Laps::begin();
            repeat(task.time, || {
                first.exchange(1)?;
                laps.lap();
                Ok(())
            })?;
            laps.report();
        }
        Measure::Window => count(task, WINDOW, || first.exchange(WINDOW))?,
        Measure::Large => count(task, 1, || first.exchange(1))?,
        Measure::Crowd => {
            let mut crowd = (0..CROWD).map(|_| connect()).collect::<Outcome<Vec<C>>>()?;
            count(task, CROWD, || {
                for one in &mut crowd {
                    one.send()?;
                    one.flush()?;
                }
                crowd.iter_mut().try_for_each(C::receive)
            })?;
        }
        Measure::Idle => {
            pause("one")?;
            let mut idle = Vec::new();
            for _ in 0..IDLE {
                let mut one = connect()?;
                one.exchange(1)?;
                idle.push(one);
            }
            pause("all")?;
        }
    }
    Ok(())
}

fn repeat(time: Duration, mut turn: impl FnMut() -> Outcome<()>) -> Outcome<Duration> {
    let began = Instant::now();
    while began.elapsed() < time {
        turn()?;
    }
    Ok(began.elapsed())
}

fn count(task: Task, requests: usize, mut turn: impl FnMut() -> Outcome<()>) -> Outcome<()> {
    repeat(task.warm_up(), &mut turn)?;
    let mut turns = 0;
    let took = repeat(task.time, || {
        turns += 1;
        turn()
    })?;
    report_rate(task.measure, turns * requests as u64, took);
    Ok(())
}
