/* Everything that runs at the program's end, each line with the version of the code that ran. */
#include <cstdio>
#include <cstdlib>

struct Object {
    ~Object();
};
Object::~Object() { std::printf("object %d\n", VERSION); }
static Object object;

struct PerThread {
    long value = 0;
    ~PerThread();
};
PerThread::~PerThread() { std::printf("thread-local %d\n", VERSION); }
static thread_local PerThread per_thread;

static void handler() { std::printf("handler %d\n", VERSION); }
__attribute__((constructor)) static void start() { std::atexit(handler); }
__attribute__((destructor)) static void finish() { std::printf("destructor %d\n", VERSION); }

#if VERSION >= 2
__attribute__((destructor)) static void added() { std::printf("added %d\n", VERSION); }
#endif

extern "C" long compute(long x) {
    per_thread.value += x;
    return VERSION * 100 + per_thread.value;
}
