//! Servers that describe themselves, and contracts (feature `describe`).
//!
//! A server tells who asks which messages it knows: their numbers, names, what they are for, and JSON schemas of all
//! that goes to and fro. Tools and programs in other languages go by it: `sidewire describe ENDPOINT` shows it, and
//! `sidewire call` takes a message's name, and JSON. What is described is also a *contract*: its hash is in the hellos
//! of both sides, so that a client of another build hears so when it connects.
//!
//! The types derive [`JsonSchema`](schemars::JsonSchema), and the first line of [`messages!`](crate::messages) gives
//! the list a name:
//!
//! ```
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//! use sidewire::describe::WhenDiffers;
//! use sidewire::{App, Connect, Server};
//!
//! /// Two numbers.
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Add {
//!     a: i32,
//!     b: i32,
//! }
//!
//! sidewire::messages! {
//!     contract Api;
//!     encoding sidewire::typed::Json;
//!     /// Adds two numbers.
//!     1 => Add -> i64;
//! }
//!
//! # let name = format!("local:describe-{}", std::process::id());
//! # let name = name.as_str(); // in an app: "local:com.example.app"
//! let mut server = Server::builder(()).app(App::new("com.example.app", "1.0.0")).build()?;
//! server.serve::<Add>(|(), add| Ok(i64::from(add.a) + i64::from(add.b)));
//! server.describe::<Api>()?;
//! server.listen(name)?;
//! let running = server.spawn()?;
//!
//! let client = Connect::to(name)?.contract::<Api>(WhenDiffers::Refuse).open()?;
//! assert_eq!(client.ask(&Add { a: 40, b: 2 })?, 42);
//! # drop(client);
//! # running.stop()?;
//! # Ok::<(), sidewire::Error>(())
//! ```
//!
//! Now `sidewire call local:com.example.app Add '{"a": 40, "b": 2}'` prints `42`.
//!
//! Nothing of this is asked of messages that are in no contract: their types need no schema, whoever has switched the
//! feature on.
//!
//! # What is in the hash
//! The numbers, names and encodings of messages and events, and the schemas of their types, both as they are read and
//! as they are written: with the names of types and fields, what is required, and the order of fields and variants,
//! since that matters to [`Postcard`](crate::typed::Postcard). Not the app's name and version, nor any comments, with
//! one exception: which variants of an enum have one, if some do and others don't. It is the same on every system, with
//! every compiler, and whatever the order in which messages are listed.
//!
//! Two things a schema does not tell, and so the hash does not see when they change, although
//! [`Postcard`](crate::typed::Postcard) does: where variants without fields stand among the others of their enum, and
//! whether an option is one of an option. And another release of `schemars` may write a schema in another way: then the
//! hash is another, of the same types.

mod canonical;
mod client;
mod document;
mod list;
mod macros;
mod serving;

pub use client::WhenDiffers;
pub use list::{Asks, Contract, Described, ErrorSchema, List};

/// The hash of a contract, as it is in the hellos of those who keep to it: for [`App::contract`](crate::App::contract)
/// where it is not set by [`Server::describe`](crate::Server::describe) or [`Connect::contract`](crate::Connect::contract).
#[must_use]
pub fn contract_hash<C: Contract>() -> [u8; 32] {
    document::hash(&List::of::<C>())
}
