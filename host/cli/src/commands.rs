//! The commands, one module for each or for each few that belong together.

pub mod batches;
pub mod cluster;
pub mod coordinator;
pub mod explain;
pub mod fleet;
pub mod maintenance;
pub mod modules;
pub mod namespaces;
pub mod ph;
pub mod replay;
pub mod run;
pub mod shell;
pub mod solve;
pub mod submit;
pub mod tune;
pub mod worker;
