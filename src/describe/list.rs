//! What is in a contract.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::typed::{Codec, Event, Fails, Fault, Message, Never};
use sidewire_wire::Failure;

/// Messages and events that two sides have agreed on: the line `contract NAME;` in [`messages!`](crate::messages) and
/// [`events!`](crate::events) makes a type that is one. Several together are a tuple of them.
///
/// By hand, for instance if some messages are not for everybody's eyes, it is
///
/// ```
/// # use schemars::JsonSchema;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, JsonSchema)]
/// # struct GetStatus;
/// # #[derive(Serialize, Deserialize, JsonSchema)]
/// # struct Changed { done: u32 }
/// use sidewire::describe::{Contract, List};
///
/// sidewire::messages! { 1 => GetStatus -> u32; }
/// sidewire::events! { 1 => Changed; }
///
/// enum Api {}
///
/// impl Contract for Api {
///     fn list(list: &mut List) {
///         list.message::<GetStatus>();
///         list.event::<Changed>();
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no contract",
    label = "lists no messages",
    note = "it is the name that `contract NAME;` gives to a list of `sidewire::messages!` or `sidewire::events!`"
)]
pub trait Contract {
    /// Adds all that is in it.
    fn list(list: &mut List);
}

/// A contract of messages that the server asks its clients: in a tuple with those that clients ask.
///
/// ```
/// # use schemars::JsonSchema;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, JsonSchema)]
/// # struct Install;
/// # #[derive(Serialize, Deserialize, JsonSchema)]
/// # struct Confirm { question: String }
/// use sidewire::describe::Asks;
///
/// sidewire::messages! {
///     contract Api;
///     1 => Install;
/// }
/// sidewire::messages! {
///     contract Callbacks;
///     1 => Confirm -> bool;
/// }
///
/// let mut server = sidewire::Server::new(());
/// server.serve::<Install>(|(), Install| Ok(()));
/// server.describe::<(Api, Asks<Callbacks>)>()?;
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Asks<C>(C);

impl<C: Contract> Contract for Asks<C> {
    fn list(list: &mut List) {
        let part = std::mem::replace(&mut list.part, Part::Asked);
        C::list(list);
        list.part = part;
    }
}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: Contract),*> Contract for ($($name,)*) {
            fn list(list: &mut List) {
                $($name::list(list);)*
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);

/// What a contract is made of; see [`Contract`].
#[derive(Debug)]
pub struct List {
    entries: Vec<Entry>,
    /// Where messages go.
    part: Part,
}

/// A part of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Messages that the server serves.
    Served,
    /// Messages that it asks its clients.
    Asked,
    Events,
}

/// A message or an event.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) part: Part,
    pub(super) number: u16,
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) encoding: &'static str,
    /// What goes to and fro, by what that is.
    pub(super) schemas: fn(&mut SchemaGenerator) -> Schemas,
}

pub(super) type Schemas = Vec<(&'static str, Schema)>;

impl List {
    pub(super) fn of<C: Contract>() -> List {
        let mut list = List { entries: Vec::new(), part: Part::Served };
        C::list(&mut list);
        // So that the order in which they were added means nothing.
        list.entries.sort_by_key(|entry| (entry.part, entry.number, entry.name));
        list.entries.dedup_by_key(|entry| (entry.part, entry.number, entry.name));
        list
    }

    /// Adds a message. Everything that it is made of derives [`JsonSchema`].
    pub fn message<M>(&mut self)
    where
        M: Message + Described,
        M::Reply: Described,
        M::Progress: Described,
        M::Error: ErrorSchema,
    {
        let (part, number, name, about) = (self.part, M::TYPE, M::NAME, M::ABOUT);
        let encoding = M::Codec::NAME;
        self.entries.push(Entry { part, number, name, about, encoding, schemas: of_message::<M> });
    }

    /// Adds an event that the server publishes. Everything that it is made of derives [`JsonSchema`].
    pub fn event<E: Event + Described>(&mut self) {
        let (number, name, about, encoding) = (E::TYPE, E::NAME, E::ABOUT, E::Codec::NAME);
        let schemas = |generator: &mut SchemaGenerator| vec![("event", generator.subschema_for::<E>())];
        self.entries.push(Entry { part: Part::Events, number, name, about, encoding, schemas });
    }

    /// In order.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

fn of_message<M>(generator: &mut SchemaGenerator) -> Schemas
where
    M: Message + Described,
    M::Reply: Described,
    M::Progress: Described,
    M::Error: ErrorSchema,
{
    let mut schemas =
        vec![("request", generator.subschema_for::<M>()), ("reply", generator.subschema_for::<M::Reply>())];
    let progress = generator.subschema_for::<M::Progress>();
    if progress != Never::json_schema(generator) {
        schemas.push(("progress", progress));
    }
    schemas.extend(M::Error::schema(generator).map(|error| ("error", error)));
    schemas
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {}", self.part, self.number, self.name)
    }
}

/// What has a schema: every type that derives [`JsonSchema`]. Nobody implements this.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no schema",
    label = "no `JsonSchema`",
    note = "add `#[derive(schemars::JsonSchema)]` to `{Self}`, or leave its message out of the contract"
)]
pub trait Described: JsonSchema {}

impl<T: JsonSchema> Described for T {}

/// The schema of what a message may fail with: of every [`Fault`] that derives [`JsonSchema`]; a [`Failure`] has none,
/// since it travels as a text.
#[diagnostic::on_unimplemented(
    message = "the error `{Self}` has no schema",
    label = "no `JsonSchema`",
    note = "add `#[derive(schemars::JsonSchema)]` to `{Self}`, or leave its message out of the contract"
)]
pub trait ErrorSchema: Fails {
    #[doc(hidden)]
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema>;
}

impl<F: Fault + JsonSchema> ErrorSchema for F {
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<F>())
    }
}

impl ErrorSchema for Failure {
    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}

/// There is no such value.
impl JsonSchema for Never {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Never".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(false)
    }
}
