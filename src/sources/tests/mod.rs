//! Each source against a real hub and ring, real files, sockets and programs.

mod exec;
mod file;
mod inlet;
mod net;
