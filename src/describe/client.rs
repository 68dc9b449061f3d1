//! The client's side.

use super::{Contract, contract_hash};
use crate::client::Connect;
pub use crate::client::WhenDiffers;

impl Connect {
    /// To which contract this client keeps. Its hash is in our hello, and compared with the server's: in each hello, also
    /// when the client [connects anew](Connect::reconnect).
    ///
    /// A server that keeps to another may understand us all the same, if it is newer and was changed with care. So
    /// usually it is enough to know: [`WhenDiffers`].
    ///
    /// ```no_run
    /// # use schemars::JsonSchema;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize, JsonSchema)]
    /// # struct GetStatus;
    /// use sidewire::Connect;
    /// use sidewire::describe::WhenDiffers;
    ///
    /// sidewire::messages! {
    ///     contract Api;
    ///     1 => GetStatus -> u32;
    /// }
    ///
    /// let connect = Connect::to("local:com.example.app")?;
    /// let client = connect.contract::<Api>(WhenDiffers::default()).open()?; // warns in the log
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    pub fn contract<C: Contract>(self, when_differs: WhenDiffers) -> Connect {
        self.keep_to(contract_hash::<C>(), when_differs)
    }
}
