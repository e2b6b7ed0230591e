/* Strings and tables of constants change, the code that reads them does not. */
#if VERSION == 1
#define WORD "one"
#define NUMBER 11
#define REAL 1.5
#else
#define WORD VERSION == 2 ? "two" : "three"
#define NUMBER (11 * VERSION)
#define REAL (1.5 * VERSION)
#endif

static const char *const names[] = {"zero", WORD, "last"};
static const long numbers[3] = {1, NUMBER, 3};
static const struct entry {
    const char *name;
    long (*run)(long);
} *find(long);
static const char *labels[] = {"label", VERSION == 1 ? "old" : "new"};

const char *name(long x) { return names[x]; }
const char *label(long x) { return labels[x]; }
long number(long x) { return numbers[x]; }
long real(long x) { return x * REAL * 2; }

static long twice(long x) { return x * 2; }
static long thrice(long x) { return x * 3; }
static const struct entry table[] = {{"a", twice}, {"b", VERSION == 1 ? twice : thrice}};
static const struct entry *find(long x) { return &table[x]; }
long run(long x) { return find(x & 1)->run(x); }

/* Compilers make tables of these. */
long pick(long x) {
    switch (x) {
    case 0: return 5;
    case 1: return NUMBER;
    case 2: return 81;
    case 3: return 17;
    case 4: return 4;
    default: return -1;
    }
}

const char *spoken(long x) {
    switch (x) {
    case 0: return "nothing";
    case 1: return WORD;
    case 2: return "a pair";
    case 3: return "some";
    case 4: return "many";
    default: return "?";
    }
}

long same(long x) { return x + 1; }
