static inline __attribute__((always_inline)) long scaled(long x) {
#ifdef VERSION
    return x * VERSION;
#else
    return x;
#endif
}
