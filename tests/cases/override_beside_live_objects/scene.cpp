struct Shape {
    long side = 4;
    virtual ~Shape() = default;
    virtual long area() { return 10 + VERSION; }
    virtual long name() { return 70 + VERSION; }
};

struct Square : Shape {
    long area() override { return side * 10 + VERSION; }
#if VERSION == 2
    long name() override { return 80 + VERSION; }
#endif
};

static Shape plain;
static Shape *kept;

extern "C" long compute(long x) { return x; }
extern "C" long keep(long what) { return (kept = what ? &plain : new Square) != nullptr; }
extern "C" long kept_name(long) { return kept->name(); }
extern "C" long kept_area(long) { return kept->area(); }

extern "C" long fresh_name(long) {
    Shape *fresh = new Square;
    long name = fresh->name();
    delete fresh;
    return name;
}
