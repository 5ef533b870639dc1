/* Writes its input in capitals, and after it the blob "suffix" where the job names one. */

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optwasm.h"

/* Memory that the job cannot do without. */
static char *need(size_t len) {
    char *memory = malloc(len + 1);
    if (memory == NULL) {
        OPTWASM_PANIC("out of memory");
    }
    return memory;
}

int main(void) {
    size_t len = (size_t)optwasm_input_len();
    char *text = need(len);
    len = optwasm_input_read(0, text, len);
    if (len == 0) {
        const char *message = "the input is empty";
        optwasm_fail(20, message, strlen(message));
    }
    for (size_t i = 0; i < len; i++) {
        text[i] = (char)toupper((unsigned char)text[i]);
    }
    optwasm_output_write(text, len);

    int32_t suffix = optwasm_blob_open("suffix", strlen("suffix"));
    if (suffix >= 0) {
        size_t suffix_len = (size_t)optwasm_blob_len(suffix);
        char *bytes = need(suffix_len);
        suffix_len = optwasm_blob_read(suffix, 0, bytes, suffix_len);
        optwasm_output_write(bytes, suffix_len);
        free(bytes);
    }

    char message[64];
    int message_len = snprintf(message, sizeof message, "wrote %zu capitals", len);
    optwasm_log(OPTWASM_INFO, "echo", 4, message, (size_t)message_len);
    free(text);
    return 0;
}
