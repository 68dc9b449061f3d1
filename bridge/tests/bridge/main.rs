//! The bridge from outside: a real nats-server, bridges as processes, and Sidewire programs at both ends that know nothing
//! of either.

mod calls;
mod discovery;
mod events;
mod faults;
mod leaving;
mod load;
mod memory;
mod owner;
mod parts;
mod secrets;
mod util;
