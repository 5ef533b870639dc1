;; Wants the host's memory.
;; expect: rejected
;; because: without threads
(module (import "env" "memory" (memory 1)) (func (export "_start")))
