//! Nothing: the examples are what is built, and the sources of the dependencies what is edited.
