extern long shared;
extern long list[3];
/* Not through a table: the linker copies them here. */
long mine(long x) {
    shared += x;
    return shared * 1000 + list[1];
}
