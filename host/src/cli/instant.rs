//! Points in time as people name them on the command line.

pub(crate) use crate::config::instant;
