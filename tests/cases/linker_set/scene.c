/* Variables of a section of their own, which code goes through from its start to its end. */
struct plugin {
    long (*run)(long);
    long calls;
};
#define PLUGIN(name) static struct plugin name##_plugin __attribute__((section("plugins"), used)) = {name, 0}
extern struct plugin __start_plugins[], __stop_plugins[];

static long one(long x) { return x * VERSION; }
PLUGIN(one);
#if VERSION >= 3
static long other(long x) { return x * 1000; }
PLUGIN(other);
#endif
static long last(long x) { return x * 10; }
PLUGIN(last);

long run_all(long x) {
    long sum = 0, calls = 0;
    for (struct plugin *plugin = __start_plugins; plugin < __stop_plugins; plugin++) {
        sum += plugin->run(x);
        calls += ++plugin->calls;
    }
    return sum * 100 + calls;
}
