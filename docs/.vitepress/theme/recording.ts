/*
 * A terminal recording (asciicast) with its player, as `<Recording src="/docs/demo.cast" />` in a page.
 */
import { defineComponent, h, onBeforeUnmount, onMounted, ref } from "vue";
import cast from "../../demo.cast?url";

export default defineComponent({
	setup() {
		const place = ref<HTMLElement>();
		let player: { dispose(): void } | undefined;
		onMounted(async () => {
			const { create } = await import("asciinema-player");
			if (place.value === undefined) return;
			player = create(cast, place.value, {
				fit: "width",
				poster: "npt:0:30",
				idleTimeLimit: 2,
				terminalFontSize: "small",
			});
		});
		onBeforeUnmount(() => player?.dispose());
		return () => h("div", { ref: place, class: "recording", role: "group", "aria-label": "Recording of npm run demo" });
	},
});
