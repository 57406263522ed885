//! All of content trust in one process, to be tried out.
