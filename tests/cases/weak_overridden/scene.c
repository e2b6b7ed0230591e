/* Weak definitions, of which the program has others: those count, in every generation. */
#if VERSION >= 2
long before = 1;
#endif
__attribute__((weak)) long setting = 5;
__attribute__((weak)) long own_setting = 6;
__attribute__((weak)) long choose(long x) { return x + VERSION; }
__attribute__((weak)) long own_choice(long x) { return x + VERSION; }

long compute(long x) {
    setting += x;
    own_setting += x;
    return choose(x) * 1000000 + own_choice(x) * 10000 + setting * 100 + own_setting;
}
long (*held_choice)(long) = choose;
long through(long x) { return held_choice(x) * VERSION; }
