/* Start-up code that comes with a later version: what is new runs once, what ran does not run again. */
#include <cstdio>
#include <string>
#include <vector>

static long logs_made, readied;

struct Log {
    std::vector<int> lines;
    Log() {
        logs_made++;
        lines.push_back(VERSION);
    }
};
static Log whole_log;

static const std::string &once() {
    static std::string made = std::string("made by ") + std::to_string(VERSION);
    return made;
}

#if VERSION >= 2
static long ready;
__attribute__((constructor)) static void make_ready() {
    ready = 40 + VERSION;
    readied++;
}
#endif

#if VERSION == 3
/* Constructed by the same start-up function as `whole_log`, which must not run again. */
static std::string greeting = std::string("hello ") + std::to_string(VERSION);
#endif

#if VERSION == 4
static const std::string &greeting() {
    static std::string made("hello, hello, hello");
    return made;
}
#endif

/* What the version has of its own; the host does not see exports that came later. */
extern "C" long ready_now(long x) {
#if VERSION >= 2
    x += ready;
#endif
    return x;
}
extern "C" long greeting_length(long x) {
#if VERSION == 3
    x += long(greeting.size());
#elif VERSION == 4
    x += long(greeting().size());
#endif
    return x;
}

extern "C" long compute(long x) { return VERSION * 100 + x; }
extern "C" long add_line(long x) {
    whole_log.lines.push_back(int(x));
    return long(whole_log.lines.size());
}
extern "C" long counts(long x) { return logs_made * 10 + readied + x; }
extern "C" const char *once_text(long) { return once().c_str(); }
