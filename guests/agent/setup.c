/* SETUP, see setup.h. */
#include "setup.h"
void setup_frame(const struct frame_header *header, const uint8_t *payload) {
    (void)header;
    (void)payload;
}
