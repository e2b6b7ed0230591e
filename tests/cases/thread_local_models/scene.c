/* Thread-locals come, go, move and grow, in every way that code may reach them. */
#if VERSION == 2
__thread long added_before[3] = {5, 6, 7};
#endif
__thread long exported = 1;
static __thread long own = 2;
#if VERSION >= 2
static __thread long added = 50;
__thread long added_exported = 60;
#endif
#if VERSION >= 3
static __thread long grows[4] = {1, 2, 3, 4};
#else
static __thread long grows[2] = {1, 2};
#endif
#if VERSION <= 2
static __thread long removed = 9;
#endif
static __thread long last;

long compute(long x) { return x; }
long use_exported(long x) { return exported += x; }
long use_own(long x) { return own += x * VERSION; }
long use_grows(long x) { return grows[1] += x; }
long use_last(long x) { return last += x; }
long *place(long x) { return x ? &exported : &own; }
long same_place(long x) { return place(1) == &exported && place(0) == &own ? *place(x) : -1; }
long use_removed(long x) {
#if VERSION <= 2
    return removed += x;
#else
    return x;
#endif
}
long use_added(long x) {
#if VERSION >= 2
    return added += x;
#else
    return x;
#endif
}
long use_added_exported(long x) {
#if VERSION == 2
    return added_exported += x + added_before[1];
#elif VERSION == 3
    return added_exported += x;
#else
    return x;
#endif
}
