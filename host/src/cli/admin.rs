//! Commands about the installation: policies, records, configuration, the service.

pub(in crate::cli) mod audit;
pub(in crate::cli) mod backup;
pub(in crate::cli) mod config_cmd;
pub(in crate::cli) mod doctor;
pub(in crate::cli) mod policy;
pub(in crate::cli) mod script;
pub(in crate::cli) mod serve;
pub(in crate::cli) mod token;
