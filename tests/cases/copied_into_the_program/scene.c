/* The program has its own copy of this variable (a COPY relocation), which the library uses as well. */
long shared = 5;
long list[3] = {1, 2, 3};
#if VERSION >= 2
long before = 9;
#endif
long *into = &list[1];

long compute(long x) {
    shared += x;
    *into += VERSION;
#if VERSION >= 2
    before++;
    return shared * 1000 + list[1] * 100 + before;
#else
    return shared * 1000 + list[1] * 100;
#endif
}
