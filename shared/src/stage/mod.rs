//! How a stage is executed: its requests are rendered, sent and judged ([`attempt`]), and what they came to
//! becomes the receipt's next step ([`next`]). The same code runs in both processes.

pub mod attempt;
mod base;
mod call;
mod connection;
pub mod credentials;
pub mod endpoint;
mod exchange;
mod limit_keys;
pub mod lookup;
pub mod next;
mod registering;
mod repeats;
pub mod sends;
mod signature;
mod skip;
pub mod spans;
pub mod unsaved;
pub mod versions;
pub mod waits;

pub use attempt::{Abandoned, Attempt, Ended};
pub use call::Unmade;
pub use endpoint::{Admission, Admitted, Endpoints, Purpose, Seen, Shut, Unadmitted};
pub use limit_keys::LimitKeys;
pub use lookup::Proofs;
pub use skip::is_passed_over;
pub use unsaved::Unsaved;
pub use versions::Versions;
