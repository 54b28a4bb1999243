//! Secrets: their files, and the functions that keep their values out of records, logs and errors.

pub(in crate::lifecycle) mod aside;
pub(in crate::lifecycle) mod files;
pub(in crate::lifecycle) mod gate;
pub(in crate::lifecycle) mod in_files;
pub(in crate::lifecycle) mod scrub;
pub(in crate::lifecycle) mod withheld_values;
