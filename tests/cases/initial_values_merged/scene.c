/* Initial values that change: what the program never touched takes the new one, what it changed stays and is told. */
struct limits {
    long low, high;
    const char *name;
};

#if VERSION == 1
long speed = 10;
long touched = 20;
long put_back = 25;
long zero;
long no_longer_zero;
long was_set = 30;
long numbers[4] = {1, 2, 3, 4};
struct limits limits = {0, 5, "first"};
#else
long speed = 10 * VERSION;
long touched = 20 * VERSION;
long put_back = 25 * VERSION;
long zero;
long no_longer_zero = 7 * VERSION;
#if VERSION == 2
long was_set;
#else
long was_set = 30 * VERSION;
#endif
long numbers[4] = {1, 2 * VERSION, 3, 4};
struct limits limits = {VERSION, 5, "another"};
#endif
static long inner[2] = {100, 200};
long *into = &inner[VERSION % 2];

static long one(long x) { return x + 1; }
static long other(long x) { return x * VERSION; }
long (*chosen)(long) = VERSION == 1 ? one : other;

long touch(long x) {
    touched += x;
    put_back += x;
    put_back -= x;
    return touched;
}

long compute(long x) { return chosen(x) * 1000 + *into; }

const char *name(long x) { return limits.name + x; }

/* Keeps compilers from taking the values for constants. */
void *all[] = {&speed, &touched, &put_back, &zero, &no_longer_zero, &was_set, numbers, &limits, &into, &chosen, one, other};
