//! The window. Its loop waits for nothing but the system: helper and instance wake it when something has come, and each
//! frame begins with a look at what that is.

use std::process::Command;
use std::task::Poll;
use std::time::Duration;

use eframe::egui::{
    Align, Button, CentralPanel, Color32, Context, Frame, Layout, ProgressBar, RichText, ScrollArea, Ui,
    ViewportBuilder, ViewportCommand, vec2,
};
use sidewire::{Activation, Events, Helper, HelperState, HelperStates, Parts, Restart, SingleInstance};

use crate::helper::{CRASH, DEVELOP, DEVELOPED, ROLE};

const NAME: &str = "Darkroom";
const PICTURES: u32 = 40;

pub fn open(instance: SingleInstance) -> eframe::Result {
    // Of this size always: ci/desktop knows where the buttons are.
    let viewport = ViewportBuilder::default().with_inner_size([640.0, 440.0]).with_resizable(false);
    let options = eframe::NativeOptions { viewport, ..Default::default() };
    eframe::run_native(
        NAME,
        options,
        Box::new(|creation| Ok(Box::new(Window::new(instance, &creation.egui_ctx)?))),
    )
}

struct Window {
    instance: SingleInstance,
    helper: Helper,
    states: HelperStates,
    state: HelperState,
    /// Once there is a helper.
    events: Option<Events>,
    work: Option<Work>,
    /// What this helper has developed.
    count: u32,
    log: Vec<String>,
}

struct Work {
    parts: Parts,
    done: u32,
}

/// All that it takes to have a helper, to be one instance, and to hear of both.
impl Window {
    fn new(
        instance: SingleInstance,
        ctx: &Context,
    ) -> Result<Window, Box<dyn std::error::Error + Send + Sync>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ROLE);
        let wake = waker(ctx);
        let helper = Helper::builder(command)
            .name("darkroom helper")
            .restart(Restart::new().pauses(Duration::from_secs(1), Duration::from_secs(30)))
            .options(|connect| connect.on_arrival(wake))
            .start()?; // the window need not wait for it
        helper.on_state(waker(ctx));
        instance.on_activation(waker(ctx));
        let states = helper.states();
        let mut window = Window {
            instance,
            helper,
            states,
            state: HelperState::Starting,
            events: None,
            work: None,
            count: 0,
            log: Vec::new(),
        };
        window.tell(&format!("started with {:?}", std::env::args_os().skip(1).collect::<Vec<_>>()));
        Ok(window)
    }

    /// What has come since the last frame. Nothing here waits.
    fn look(&mut self, ctx: &Context) {
        while let Some(state) = self.states.next_timeout(Duration::ZERO) {
            self.enter(state, ctx);
        }
        while let Some(work) = &mut self.work {
            match work.parts.poll() {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(picture))) => work.done = number(&picture),
                Poll::Ready(Some(Err(error))) => self.end_work(&format!("failed: {error}")),
                Poll::Ready(None) => self.end_work("all pictures are developed"),
            }
        }
        while let Some(Ok(Some(event))) =
            self.events.as_mut().map(|events| events.next_timeout(Duration::ZERO))
        {
            self.count = number(event.payload());
        }
        while let Some(activation) = self.instance.try_next() {
            self.activate(&activation, ctx);
        }
    }

    /// The supervisor says how the helper is doing.
    fn enter(&mut self, state: HelperState, ctx: &Context) {
        let process = self.helper.id().map(|pid| format!(", process {pid}")).unwrap_or_default();
        self.tell(&format!("helper: {state}{process}"));
        ctx.send_viewport_cmd(ViewportCommand::Title(format!("{NAME} - {}", word(&state).0)));
        if let HelperState::Ready = state {
            self.count = 0; // it is a new one
            if self.events.is_none() {
                self.events = self.helper.subscribe(DEVELOPED).ok(); // also to those that follow
            }
        }
        self.state = state;
    }

    /// Somebody has started the app again.
    fn activate(&mut self, activation: &Activation, ctx: &Context) {
        self.tell(&format!("started again with {:?}", activation.arguments()));
        ctx.send_viewport_cmd(ViewportCommand::Minimized(false));
        ctx.send_viewport_cmd(ViewportCommand::Focus);
    }

    fn develop(&mut self) {
        // Fails at once if the helper ends in this very moment: a window must not wait for the next one.
        match self.helper.request(DEVELOP).fail_fast().stream(PICTURES.to_string()) {
            Ok(parts) => {
                self.work = Some(Work { parts, done: 0 });
                self.tell(&format!("develop {PICTURES} pictures"));
            }
            Err(error) => self.tell(&format!("failed: {error}")),
        }
    }

    /// Dropped before its end, the work is cancelled, and the helper hears of it.
    fn end_work(&mut self, why: &str) {
        let done = self.work.take().map_or(0, |work| work.done);
        self.tell(&format!("{why} ({done} of {PICTURES})"));
    }

    fn crash(&mut self) {
        self.tell("the helper is asked to crash");
        if let Err(error) = self.helper.request(CRASH).fail_fast().notify("") {
            self.tell(&format!("failed: {error}"));
        }
    }

    fn tell(&mut self, text: &str) {
        log::info!("{text}");
        self.log.extend(text.lines().map(String::from));
    }
}

/// Has the window draw itself, and so look; for any thread.
fn waker(ctx: &Context) -> impl Fn() + Send + Sync + 'static {
    let ctx = ctx.clone();
    move || ctx.request_repaint()
}

fn number(text: &[u8]) -> u32 {
    String::from_utf8_lossy(text).parse().unwrap_or_default()
}

fn word(state: &HelperState) -> (&'static str, Color32) {
    match state {
        HelperState::Starting => ("starting", Color32::GOLD),
        HelperState::Ready => ("ready", Color32::from_rgb(90, 200, 120)),
        HelperState::Restarting { .. } => ("restarting", Color32::ORANGE),
        HelperState::GaveUp(_) => ("given up", Color32::RED),
        _ => ("ended", Color32::RED),
    }
}

/// What one sees.
impl eframe::App for Window {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        self.look(ctx);
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        let frame = Frame::central_panel(ui.style()).inner_margin(20);
        CentralPanel::default().frame(frame).show(ui, |ui| {
            ui.spacing_mut().item_spacing = vec2(12.0, 12.0);
            self.show_head(ui);
            self.show_progress(ui);
            self.show_buttons(ui);
            self.show_log(ui);
        });
    }
}

impl Window {
    fn show_head(&self, ui: &mut Ui) {
        ui.horizontal(|ui| {
            ui.label(RichText::new(self.count.to_string()).size(36.0).strong());
            ui.label("pictures developed\nby this helper");
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let (word, color) = word(&self.state);
                ui.label(RichText::new(word).size(18.0).color(color));
                ui.label("helper is");
            });
        });
    }

    fn show_progress(&self, ui: &mut Ui) {
        let done = self.work.as_ref().map(|work| work.done);
        let text = done.map_or("nothing to do".into(), |done| format!("picture {done} of {PICTURES}"));
        let share = done.unwrap_or_default() as f32 / PICTURES as f32;
        ui.add(ProgressBar::new(share).desired_height(26.0).corner_radius(6).text(text));
    }

    fn show_buttons(&mut self, ui: &mut Ui) {
        let is_ready = matches!(self.state, HelperState::Ready);
        let is_pressed = |ui: &mut Ui, text: &str, may: bool| {
            ui.add_enabled(may, Button::new(RichText::new(text).size(15.0)).min_size(vec2(190.0, 36.0)))
                .clicked()
        };
        ui.horizontal(|ui| {
            if is_pressed(ui, "Develop", is_ready && self.work.is_none()) {
                self.develop();
            }
            if is_pressed(ui, "Cancel", self.work.is_some()) {
                self.end_work("cancelled");
            }
            if is_pressed(ui, "Crash the helper", is_ready) {
                self.crash();
            }
        });
    }

    fn show_log(&self, ui: &mut Ui) {
        Frame::group(ui.style()).fill(ui.visuals().extreme_bg_color).show(ui, |ui| {
            ScrollArea::vertical().auto_shrink(false).stick_to_bottom(true).show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = 3.0;
                for line in &self.log {
                    ui.label(RichText::new(line).monospace());
                }
            });
        });
    }
}
