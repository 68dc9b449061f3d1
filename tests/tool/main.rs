//! The command-line tool and foreign programs: real processes.

#[path = "../util/mod.rs"]
mod util;

mod call;
mod demo;
#[cfg(feature = "describe")]
mod describe;
mod exec;
mod files;
mod getset;
mod help;
mod log;
mod on_demand;
mod own_loop;
mod ping;
mod progress;
mod reconnect;
mod recorder;
mod serve;
mod soak;
mod stage;
mod stats;
mod store;
mod stream;
mod survey;
#[cfg(feature = "tokio")]
mod tasks;
mod texts;
mod token;

// C, Python and netcat over Unix sockets; their peers on Windows are not to be had under Wine.
#[cfg(unix)]
mod classic_c;
#[cfg(unix)]
mod foreign;
#[cfg(unix)]
mod python;
#[cfg(unix)] // Its other side is a shell.
mod ssh;
// Signals and the files of sockets: Windows has neither.
#[cfg(unix)]
mod activation;
#[cfg(unix)]
mod death;
#[cfg(unix)]
mod environments;
#[cfg(unix)]
mod removed;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod squatting;
// Where a port is shared evenly.
#[cfg(target_os = "linux")]
mod shared_port;
// The system has to tell which process serves.
#[cfg(any(target_os = "linux", windows))]
mod stop;
// What only /proc, strace and setpriv show.
#[cfg(target_os = "linux")]
mod accepting;
#[cfg(target_os = "linux")]
mod access;
#[cfg(target_os = "linux")]
mod crowded;
#[cfg(target_os = "linux")]
mod failing;
#[cfg(target_os = "linux")]
mod frozen;
#[cfg(target_os = "linux")]
mod idle;
#[cfg(target_os = "linux")]
mod journal;
#[cfg(target_os = "linux")]
mod killed;
#[cfg(target_os = "linux")]
mod lacking;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod system_calls;
#[cfg(target_os = "linux")]
mod unwilling;
#[cfg(target_os = "linux")]
mod users;
mod watch;
mod workers;
