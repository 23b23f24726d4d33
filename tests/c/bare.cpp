// bare: a C++ program that needs nothing of the C++ library but what a failing new throws.
#include <cstddef>
#include <new>

using std::size_t;

static void *volatile kept;

int main(int argc, char **)
{
    try {
        kept = ::operator new(size_t(-argc));
    } catch (const std::bad_alloc &) {
        return ::operator new[](size_t(-argc), std::nothrow) ? 2 : 0;
    }
    return 1;
}
