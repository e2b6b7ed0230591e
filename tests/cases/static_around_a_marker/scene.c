/* GNU ld puts its marker `__TMC_END__`, a symbol without a size, at the next address that can be divided by 8: in the second version
   that is inside of a static. */
static signed char data[4] = {1, 2, 3, 4};
#if VERSION == 1
static signed char gone[4] = {5, 6, 7, 8};
#endif
static short pair[2];

long count(long at) {
#if VERSION == 1
    gone[at & 3]++;
#endif
    return data[at & 3]++;
}

long set(long value) { return pair[1] = (short)value; }

__attribute__((noipa)) long get(long x) {
#if VERSION == 1
    return pair[1] + data[x & 3];
#else
    return pair[1] * 2 + data[x & 3];
#endif
}
