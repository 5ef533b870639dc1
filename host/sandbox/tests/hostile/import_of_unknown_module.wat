;; Imports what nobody offers.
;; expect: rejected
;; because: `host\n.run`
(module (import "host\n" "run" (func)) (memory (export "memory") 1) (func (export "_start")))
