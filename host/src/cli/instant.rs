//! Points in time on the command line.

pub(crate) use crate::config::instant;
