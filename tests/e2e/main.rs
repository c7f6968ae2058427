//! The whole thing from outside: the programs as built, a real PostgreSQL, real namespaces. One binary, so that it
//! links once; a file per story.

mod harness;
