//! (to be written)

pub mod check;
pub mod init;
