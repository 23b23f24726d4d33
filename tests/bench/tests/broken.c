/* A library that needs what nobody has, so that no program starts with it. */
void heapsift_nobody_has_this(void);

__attribute__((constructor)) static void start(void) {
    heapsift_nobody_has_this();
}
